"""The container's face: the chain as mhubio modules, its model card and its entrypoint (see DESIGN.md)."""
