"""The one exception hierarchy.

FmcibError
+-- InputError                 something in INPUT cannot be used
|   +-- NotOneVolumeError      slices are not one uniform grid
|   +-- PixelDataError         pixels are absent or cannot be decoded
|   +-- SeedNotFoundError      an ROI, segment or seed file gives no position
|   +-- SeedOutsideVolumeError a seed has no voxel of the scan under its patch
|   +-- FrameOfReferenceError  an ROI lives in another frame of reference
|   +-- UnforeseenError        something in it makes the software fail in a way that nobody foresaw
+-- ConfigError                settings or command line
+-- WeightsError               weights are unknown, absent, damaged or do not fit the network
+-- OutputError                OUTPUT cannot be written, or holds another configuration's results
+-- PeerError                  another system (PACS, Orthanc, DICOMweb server) refuses, or answers what it should not
    +-- PeerUnavailableError   it cannot be reached or is overloaded now
"""


class FmcibError(Exception):
    """Base of everything we raise on purpose: what happened, where, what to do."""

    def __init__(self, what: str, where: str, fix: str) -> None:
        super().__init__(what, where, fix)  # positional args survive pickling between workers

    @property
    def what(self) -> str:
        """What happened, with expected and found values."""
        return str(self.args[0])

    @property
    def where(self) -> str:
        """UIDs, ROI names or file names; never PatientName, PatientID or dates."""
        return str(self.args[1])

    @property
    def fix(self) -> str:
        """What the user can do about it."""
        return str(self.args[2])

    def __str__(self) -> str:
        return f"{self.what} [{self.where}]: {self.fix}"


class InputError(FmcibError):
    """Something in the input cannot be used."""


class NotOneVolumeError(InputError):
    """The slices of a series are not one uniform grid."""


class PixelDataError(InputError):
    """The pixels of an instance are absent or cannot be decoded."""


class UnforeseenError(InputError):
    """Something in the input makes the software fail in a way that nobody foresaw."""


class SeedNotFoundError(InputError):
    """An ROI, segment or seed file gives no position."""


class SeedOutsideVolumeError(InputError):
    """A seed has no voxel of the scan under its patch."""


class FrameOfReferenceError(InputError):
    """An ROI lives in another frame of reference than the CT."""


class ConfigError(FmcibError):
    """Settings or the command line are wrong; nothing was run."""


class WeightsError(FmcibError):
    """Weights are unknown, absent, damaged or do not fit the network."""


class OutputError(FmcibError):
    """The output folder cannot be written, or holds another configuration's results."""


class PeerError(FmcibError):
    """Another system refuses what we ask, or answers what it should not; asking again does not help."""


class PeerUnavailableError(PeerError):
    """Another system cannot be reached or is overloaded now; asking again later may help."""
