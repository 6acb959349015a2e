"""What the classic programs share: ways to wait for a client, to run others, and to hand messages in and on."""
