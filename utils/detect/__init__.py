"""Images to boxes, and boxes to files."""
