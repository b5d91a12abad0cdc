"""Chatr Connect: clients that identify themselves by key ask for each other by UUID, and meet over UDP."""
