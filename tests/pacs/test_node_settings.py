"""What a node cannot work with is refused before it starts, with what to give instead."""

import pytest

from fmcib_module.core.errors import ConfigError
from fmcib_module.pacs.node_settings import read_node_settings

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("peers", [], "nobody may send"),
        ("workers", 0, "workers is 0"),
        ("quiet_s", -1.0, "quiet_s is -1"),
        ("maximum_pdu_bytes", 100, "maximum_pdu_bytes is 100"),
        ("destinations", [PACS, PACS], "two destinations are named 'pacs'"),
        ("destinations", [{**PACS, "host": ""}], "cstore without a host"),
        ("destinations", [{"name": "web", "protocol": "stow"}], "stow without a url"),
        ("destinations", [{**PACS, "tls": True}], "a destination with tls"),
        ("ae_title", "LONGER THAN SIXTEEN", "no AE title"),
    ],
)
def test_settings_that_do_not_fit_are_named(key, value, message) -> None:
    with pytest.raises(ConfigError, match=message):
        read_node_settings(None, **{"folder": "node", "peers": [{"ae_title": "CT"}], key: value})
