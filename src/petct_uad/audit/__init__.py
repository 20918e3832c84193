"""How much the numbers can say: what a split leaks, how many patients, how small a lesion."""
