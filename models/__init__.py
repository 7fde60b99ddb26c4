"""What the network is: layers, the YAML parser, formats."""
