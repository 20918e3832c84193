"""The selective scan of Mamba and its 2D form, SS2D."""
