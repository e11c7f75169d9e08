"""Bounds of what callers send, beside its bytes.

A process runs all its calls in one loop, and JSON is decoded in one step: what these allow holds
the loop for less than 50 ms. A body that is one long string may take what its bytes take.
"""

#: Values and names in the JSON of one request, of a batch line, of anything that is decoded whole.
MAX_JSON_NODES = 200_000
#: Lists and objects inside each other, the body itself included.
MAX_JSON_DEPTH = 64
#: Messages of one chat.
MAX_MESSAGES = 20_000

#: Of a provider's answer. Twenty alternatives for each token of a long answer are a million nodes.
MAX_ANSWER_NODES = 2_000_000
#: orjson writes up to 254 levels, and jobs and batches add levels of ours.
MAX_ANSWER_DEPTH = 200
