"""The composition root and the life cycle of a mount: resolve -> mount -> ready -> drain -> unmount.

The only package that knows every part.
"""
