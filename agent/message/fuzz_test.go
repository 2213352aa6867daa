package message

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever comes, parse takes only what Check allows, and what it took survives being sent on.
func FuzzParse(f *testing.F) {
	const id = `"id":"000102030405060708090a0b0c0d0e0f"`
	for _, seed := range []string{
		`{"v":1,` + id + `,"text":"hi"}`, `{"v":1,` + id + `,"text":"a\u0000b"}`, `{"v":1,` + id + `,"text":"\ud800"}`, `{"V":1,"iD":"00","TEXT":"x"}`,
		`{"v":1e0,` + id + `,"text":"x"}`, `{"v":1,` + id + `,"text":"x","text":"y"}`, `[]`, ``, "{\"v\":1,\"text\":\"\xff\"}", `{"v":1,` + id + `,"text":null}`,
		strings.Repeat(`{"text":`, 1000), `{"v":1,` + id + `,"text":"` + strings.Repeat("x", MaxText) + `"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := parse(raw)
		if err != nil {
			if code := Code(err); code == "" || code == "internal" {
				t.Fatalf("%v has no word for the peer", err)
			}
			return
		}
		if b.Text == "" || len(b.Text) > MaxText || !utf8.ValidString(b.Text) || strings.Contains(b.Text, "\x00") || b.ID == (wireID{}) {
			t.Fatalf("parse took %+v", b)
		}
		again, err := b.encode()
		if err != nil || len(again) > maxBody {
			t.Fatalf("encode: %d bytes, %v", len(again), err)
		}
		if same, err := parse(again); err != nil || same != b {
			t.Fatalf("%q came back as %+v, %v", bytes.TrimSpace(again), same, err)
		}
	})
}
