"""Memories of earlier batches that survive a restart and are the same on every rank."""

from lightly.models.modules.memory_bank import MemoryBankModule


def make_persistent(bank: MemoryBankModule) -> None:
    """Keep a bank in checkpoints, and fill it with the features of all ranks.

    lightly leaves it out of checkpoints, so that a resumed run would start with noise as its neighbours.
    """
    bank.gather_distributed = True
    for name in ("bank", "bank_ptr"):
        buffer = getattr(bank, name)
        delattr(bank, name)
        bank.register_buffer(name, buffer, persistent=True)
