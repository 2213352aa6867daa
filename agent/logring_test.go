package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestLogRing(t *testing.T) {
	ring := &logRing{}
	var out strings.Builder
	log := slog.New(ringHandler{Handler: slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}), ring: ring})
	log.Debug("Too small")
	log.Info("First", "port", 7421)
	log.With("peer", "AAAA-BBBB").WithGroup("radio").Warn("Second", "err", errors.New(`no "wlan0"`), "name", "two words")
	lines := ring.last()
	if len(lines) != 2 || lines[0].Message != "First" || lines[0].Attrs != "port=7421" || lines[0].Level != "INFO" || lines[0].Time.IsZero() {
		t.Fatalf("%+v", lines)
	}
	if want := `peer=AAAA-BBBB radio.err="no \"wlan0\"" radio.name="two words"`; lines[1].Attrs != want {
		t.Errorf("attributes %s, want %s", lines[1].Attrs, want)
	}
	if strings.Contains(out.String(), "First") || !strings.Contains(out.String(), `peer=AAAA-BBBB radio.err="no \"wlan0\""`) {
		t.Errorf("the program's own log: %s", out.String())
	}
	for i := range 2 * ringLines {
		log.Log(t.Context(), slog.LevelInfo, fmt.Sprint(i), "long", strings.Repeat("ü", ringBytes))
	}
	lines = ring.last()
	if len(lines) != ringLines || lines[0].Message != fmt.Sprint(ringLines) || lines[ringLines-1].Message != fmt.Sprint(2*ringLines-1) {
		t.Errorf("%d lines, %s to %s", len(lines), lines[0].Message, lines[len(lines)-1].Message)
	}
	for _, l := range lines {
		if len(l.Attrs) > ringBytes+2 {
			t.Fatalf("%d bytes are kept", len(l.Attrs))
		}
	}
}

func BenchmarkLogRing(b *testing.B) {
	log := slog.New(ringHandler{Handler: slog.DiscardHandler, ring: &logRing{}})
	for b.Loop() {
		log.Info("Device is near", "peer", "AAAA-BBBB", "path", "lan", "ifname", "eth0")
	}
}
