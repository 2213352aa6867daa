package cli

import (
	"testing"

	"nigh/agent/control"
)

func TestHoldersAreNamed(t *testing.T) {
	ada, bob := control.Member{Name: "ada"}, control.Member{Name: "bob"}
	for _, c := range []struct {
		list []control.TransferHolder
		want string
	}{
		{nil, ""},
		{[]control.TransferHolder{{Device: ada, Bytes: 5e6}, {Device: bob}}, ""},
		{[]control.TransferHolder{{Device: ada, Bytes: 5e6}, {Device: bob, Bytes: 7e6}}, "5.0 MB from ada, 7.0 MB from bob"},
		{[]control.TransferHolder{{Device: ada, Bytes: 5e6}, {Device: bob, Dropped: "verify"}}, "bob sent wrong data and is asked no more"},
	} {
		if got := holders(control.Transfer{Holders: c.list}); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
