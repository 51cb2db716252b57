"""Proves with real requests from outside that a Kubernetes cluster keeps the NodePort contract."""
