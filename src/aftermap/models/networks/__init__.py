"""Networks: encoders, decoders and the architectures made of them."""
