package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestDeclaredTests(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a_netns_test.go": "package a\n\nfunc TestMain(m *testing.M) {}\n\nfunc TestOne(t *testing.T) {}\n\nfunc TestTwo(tt *testing.T) {}\n",
		"b_test.go":       "package a\n\nfunc TestOther(t *testing.T) {}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := declaredTests(dir, netnsFiles)
	if want := []string{"TestOne", "TestTwo"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestMeasurements(t *testing.T) {
	got := measurements([]string{"=== RUN TestA\n", "    a_test.go:7: start to listed: median 0.2 s\n", "    a_test.go:8: something else\n"})
	if want := []string{"start to listed: median 0.2 s\n"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
