"""What is watched between cycles; every figure comes with an interval and the number of records behind it."""
