"""Multi-resolution knowledge distillation, on the shared teacher."""
