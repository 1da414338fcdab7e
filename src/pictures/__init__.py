"""Every picture, a module a subject: a change of colour in one reruns no other stage."""
