"""SCRD4AD: scale-aware contrastive reverse distillation (Li et al. 2025)."""
