"""What a team would pick instead, each as its documentation has it, in an environment of its own.

Run as the loops are: `python -m bench.peers.NAME BOOTSTRAP TOPIC RECORDS GROUP`, by the interpreter that
`bench.environments` makes for NAME.
"""
