package transfer

import (
	"slices"
	"testing"
)

func TestTwins(t *testing.T) {
	paths := []string{"A", "A/B", "A/B/x", "A/b", "A/b/x", "A/b/x/y", "A/c", "A/\u00e9", "A/e\u0301", "a", "a/B", "a/b", "z"}
	want := []string{"A/b", "A/b/x", "A/b/x/y", "A/e\u0301", "a/b"}
	slices.SortFunc(paths, func(a, b string) int {
		if less(a, b) {
			return -1
		}
		return 1
	})
	var got []string
	tw := newTwins()
	for _, p := range paths {
		if tw.has(p) {
			got = append(got, p)
		}
	}
	// In the order of bytes the decomposed form comes first, and the other is the twin.
	if want[3] = "A/\u00e9"; !slices.Equal(got, want) {
		t.Errorf("twins %q, want %q", got, want)
	}
	if (*twins)(nil).has("A") {
		t.Error("a disk that tells names apart has twins")
	}
}
