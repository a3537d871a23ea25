"""Effective diffusivity, tortuosity factor and contact areas of labelled volumes."""
