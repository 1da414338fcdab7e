"""Does separation tell where to cut, and what of the in-sample curve is bias? studies/separation/README.md says how."""
