package wpatest

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzScript reads scripts that nobody recorded: what is read is written so that it is read as the same.
func FuzzScript(f *testing.F) {
	f.Add("# a/b\na\tsignal\t~/Interfaces/0\tP2PDevice.DeviceLost\to\"/x\"\n")
	f.Add("a\tcall\t~\tRoot.X\t{\"a\" <{\"b\" aay[#01 #]}> \"c\" ai[i1]}\tu5\tt7\ttrue\n")
	f.Add("a\treply\t~\tX.Y\t" + strings.Repeat("<", 100))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ReadScript(strings.NewReader(text))
		if err != nil {
			return
		}
		var once, twice bytes.Buffer
		if err := s.Write(&once); err != nil {
			t.Fatal(err)
		}
		again, err := ReadScript(bytes.NewReader(once.Bytes()))
		if err != nil {
			t.Fatalf("%v in %q", err, once.String())
		}
		if err := again.Write(&twice); err != nil || once.String() != twice.String() {
			t.Fatalf("%v: %q became %q", err, once.String(), twice.String())
		}
	})
}
