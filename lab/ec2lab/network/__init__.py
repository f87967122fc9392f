"""What carries and fences the machines' traffic: bridges, namespaces and nftables rules."""
