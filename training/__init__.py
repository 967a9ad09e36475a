"""Self-supervised pretraining of the encoder: five methods, one trainer, exports that the chain loads unchanged."""
