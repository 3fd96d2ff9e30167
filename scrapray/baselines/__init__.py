"""What the segmenter is held against: methods of the field behind one interface, tiles in and anomaly maps out."""
