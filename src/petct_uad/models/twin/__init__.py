"""Each modality predicted from the other, with its spread; what deviates is abnormal."""
