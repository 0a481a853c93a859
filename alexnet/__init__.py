"""AlexNet and VGG as data, the modules built from that data, and how they learn."""
