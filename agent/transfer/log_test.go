package transfer

import (
	"io"
	"log/slog"
	"os"
	"testing"
)

// testLog shows the log of a failed test with -v, and always when NIGH_TEST_LOG is set.
func testLog(t testing.TB) *slog.Logger {
	out := io.Discard
	if os.Getenv("NIGH_TEST_LOG") != "" {
		out = t.Output()
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
