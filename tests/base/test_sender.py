import pytest

from ekiden.base.sender import verp


@pytest.mark.parametrize(
    ("sender", "recipient", "gets"),
    [
        (b"list-@nix.example-@[]", b"jiro@nix.co.jj", b"list-jiro=nix.co.jj@nix.example"),
        (b"list-@nix.example-@[]", b"a@b@nix.co.jj", b"list-a@b=nix.co.jj@nix.example"),
        (b"list-@nix.example-@[]", b"jiro", b"list-jiro@nix.example"),
        (b"list-@nix.example", b"jiro@nix.co.jj", b"list-@nix.example"),
        (b"list-@[]", b"jiro@nix.co.jj", b"list-@[]"),
        (b"#@[]", b"jiro@nix.co.jj", b"#@[]"),
        (b"", b"jiro@nix.co.jj", b""),
    ],
)
def test_each_recipient_gets_a_sender_of_its_own(sender, recipient, gets):
    assert verp(sender, recipient) == gets
