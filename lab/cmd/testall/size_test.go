package main

import "testing"

func TestTooLarge(t *testing.T) {
	if said := tooLarge(programMost); said != "" {
		t.Errorf("the goal itself is too large: %q", said)
	}
	if tooLarge(programMost+1) == "" {
		t.Error("a byte more than the goal is not too large")
	}
}
