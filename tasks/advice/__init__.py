"""What helps to choose and to find faults before they cost a training."""
