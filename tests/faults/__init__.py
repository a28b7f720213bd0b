"""What runs go through: killed processes, lost servers, full disks, decoders that crash."""
