"""What each command of ``ctxseg`` does; `napari_ctxseg.cli` only names its options."""
