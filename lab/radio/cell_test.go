package radio

import (
	"errors"
	"testing"

	"nigh/lab/vm"
)

func TestCells(t *testing.T) {
	for name, want := range map[string]Cell{
		"default":       {},
		"p2pdevice=off": {NoP2PDevice: true},
		"p2pdevice=off,channels=2,names=long,supplicant=2.11": {NoP2PDevice: true, Channels: 2, LongNames: true, Supplicant: "2.11"},
	} {
		got, err := ParseCell(name)
		if err != nil || got != want || got.String() != name {
			t.Errorf("%s: %+v, %v, %s", name, got, err, got)
		}
		for _, tree := range got.Trees() {
			if _, ok := vm.Trees[tree]; !ok {
				t.Errorf("%s: nigh/lab/vm has no tree %s", name, tree)
			}
		}
	}
	for _, name := range []string{"p2pdevice", "p2pdevice=off,", "channels=3", "Default"} {
		if _, err := ParseCell(name); !errors.Is(err, ErrCell) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestConfigOnCell(t *testing.T) {
	t.Setenv(CellEnv, "channels=2,names=long")
	for _, tt := range []struct{ config, want Config }{
		{Config{Nodes: 2}, Config{Nodes: 2, Channels: 2, LongNames: true, Radios: 1}},
		// What a test is about it says itself.
		{Config{Channels: 1, Radios: 2, Supplicant: "2.11"}, Config{Channels: 1, Radios: 2, LongNames: true, Supplicant: "2.11"}},
	} {
		if got, err := tt.config.onCell(); err != nil || got.Channels != tt.want.Channels || got.LongNames != tt.want.LongNames ||
			got.Radios != tt.want.Radios || got.Supplicant != tt.want.Supplicant || got.NoP2PDevice {
			t.Errorf("%+v: %+v, %v", tt.config, got, err)
		}
	}
	t.Setenv(CellEnv, "nonsense")
	if _, err := (Config{}).onCell(); !errors.Is(err, ErrCell) {
		t.Errorf("nonsense: %v", err)
	}
}
