"""Python code without what changes nothing: comments, docstrings and positions."""

import ast

HAVE_DOCSTRINGS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def bare_tree(source: bytes) -> ast.Module:
    """Return the syntax tree of ``source`` without docstrings; SyntaxError or ValueError if it is no valid Python."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, HAVE_DOCSTRINGS) and ast.get_docstring(node) is not None:
            del node.body[0]
    return tree
