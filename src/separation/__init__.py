"""How well each layer of a network separates the classes: indices of arrays, and of any network as it runs.

`stream` sends the output of each module to receivers while the network runs; `centers` is the Center-based Separation
Index, `neighbours` the Separation Index, `probe` the accuracy of a linear classifier, `rank` the effective rank and
the share of dead channels. `scores` holds what they return: a credit per image, its paired error, and where a score
stops rising (`first_within`). `measure` runs all of them on one network, and `tables` makes rows of what it returns.
Nothing here knows of files or of the pipeline.
"""
