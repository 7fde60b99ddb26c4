"""What is done with the network: data, training, evaluation, and the helpers below them."""
