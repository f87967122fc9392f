"""The machines' network: bridges, network namespaces and nftables rules."""
