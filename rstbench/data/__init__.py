"""Data sets as uint8 arrays (numpy) and, in `tensors`, as uint8 tensors augmented on the device."""
