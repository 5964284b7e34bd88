"""What the tests share: real servers, running stacks, waiting, faults on the wire."""
