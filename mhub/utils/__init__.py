"""The chain as mhubio modules, one file per step; mhubio finds them by file name."""
