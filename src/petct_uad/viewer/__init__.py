"""One study as a page to scroll through: CT, PET, every row's anomaly map and the label."""
