"""Export of feature sets in the formats that other programs load, one file per format."""
