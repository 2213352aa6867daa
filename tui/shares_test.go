package tui

import (
	"testing"
	"time"

	"nigh/agent/control"
)

func sharing() *fakeAgent {
	holder := func(id, name, share, path string) control.ShareHolder {
		return control.ShareHolder{Device: control.Member{ID: id, Name: name}, Share: share, Path: path}
	}
	return &fakeAgent{
		state: sampleState(),
		shares: []control.Share{
			{Name: "drop", Folder: "/home/pi/drop", For: []control.Member{{ID: idAna, Name: "Ana's laptop"}}, State: "ready", Files: 17, Dirs: 2, Bytes: 88_000_000, Hashed: 17, Watched: "inotify"},
			{Name: "photos", Folder: "/srv/photos", State: "ready", Files: 4812, Dirs: 31, Bytes: 21_000_000_000, Hashed: 900, Skipped: 3, Watched: "inotify"},
			{Name: "usb", Folder: "/mnt/usb", State: "missing", Error: "the folder is not there", Hint: "plug the disk in", Watched: "periodic"},
		},
		listing: map[string]control.Listing{
			"//":                    {Shares: []control.RemoteShare{{Name: "films", Files: 212, Bytes: 800_000_000_000, State: "ready"}, {Name: "slides", Files: 3, Bytes: 9_000_000, State: "ready"}}},
			"films//":               {More: true, Entries: []control.ShareEntry{{Name: "raw", Kind: "folder"}, {Name: "holiday-4k.mov", Kind: "file", Size: 4_300_000_000, Modified: "2026-11-21T10:00:00Z", Hash: "ab12"}}},
			"films/raw/":            {Entries: []control.ShareEntry{{Name: "take\x1b[2J1.mov", Kind: "file", Size: 7}}},
			"films//holiday-4k.mov": {Entries: []control.ShareEntry{{Name: "zoo.mov", Kind: "file", Size: 90}}},
		},
		found: control.SearchAnswer{Asked: 2, Silent: []control.Member{{ID: idWork, Name: "workshop"}}, Results: []control.ShareEntry{
			{Name: "holiday-4k.mov", Kind: "file", Size: 4_300_000_000, Hash: "ab12", Holders: []control.ShareHolder{holder(idAna, "Ana's laptop", "films", "holiday-4k.mov"), holder(idPi, "living-room-pi", "copies", "a/holiday-4k.mov")}},
			{Name: "holidays", Kind: "folder", Holders: []control.ShareHolder{holder(idPi, "living-room-pi", "photos", "2025/holidays")}},
		}},
	}
}

// TestShares looks into another device's shares and asks for a file.
func TestShares(t *testing.T) {
	agent := sharing()
	drive(t, agent, func(u *ui) {
		u.press("4")
		u.expect("[4 Shares]", "/srv/photos", "Ana's laptop", "missing", "ON OTHER DEVICES")
		u.press("j", "j")
		u.expect("The folder is not there. Plug the disk in.")
		u.press("j", "enter")
		u.expectCalls(`browse B3RD-9KFA "" "" after ""`)
		u.expect("films/", "800 GB", "212 files")
		u.press("enter")
		u.expectCalls(`browse B3RD-9KFA "films" "" after ""`, `browse B3RD-9KFA "films" "" after "holiday-4k.mov"`)
		u.expect("holiday-4k.mov", "2026-11-21", "zoo.mov", "Ana's laptop: films")
		u.press("enter")
		u.expect("take?[2J1.mov")
		u.press("r")
		u.expect("Get from a share?", "7 B from Ana's laptop")
		agent.calls = nil
		u.press("y")
		u.expectCalls(`get B3RD-9KFA "films" "raw/take\x1b[2J1.mov" hash "" from []`)
		u.expect("Receiving take?[2J1.mov")
		u.press("esc", "esc", "esc", "esc")
		u.expect("SHARED HERE")
		u.press("esc")
		u.expect("SHARED HERE")
	})
}

// TestSearchShares asks for a content from all that have it.
func TestSearchShares(t *testing.T) {
	agent := sharing()
	drive(t, agent, func(u *ui) {
		u.press("4", "f")
		u.typed("holiday 4k")
		u.press("enter")
		u.expectCalls(`search "holiday 4k"`)
		u.expect("2 devices asked, 1 did not answer", "and 1 more", "living-room-pi: photos/2025/holi")
		u.press("enter", "y")
		u.expectCalls(`get  "" "" hash "ab12" from [B3RD-9KFA XW2P-77LM]`)
		u.press("j", "enter")
		u.expectCalls(`browse XW2P-77LM "photos" "2025/holidays" after ""`)
		u.expect("nothing is shared with you here")
	})
}

// TestAddShare shares a folder for two devices, and stops sharing another.
func TestAddShare(t *testing.T) {
	agent := sharing()
	drive(t, agent, func(u *ui) {
		u.press("4", "a", "ctrl+u", "enter")
		u.expect("Type the path of a folder.")
		u.typed("/srv/music")
		u.press("enter")
		u.expect("Who may see music?", "[x] all trusted devices", "also those that you pair")
		u.press(" ", "enter")
		u.expect("Choose all trusted devices, or at least one.")
		u.expectCalls()
		u.press(" ", " ")
		u.expect("[ ] all trusted devices", "2 devices chosen; no other one sees it.")
		u.press("enter")
		u.expectCalls("share /srv/music for [" + idAna + " " + idPi + "]")
		u.expect("Shared music with Ana's laptop, living-room-pi; it is read in the background.")
		agent.shares = append(agent.shares, control.Share{Name: "music", Folder: "/srv/music", State: "scanning"})
		u.wait(4 * time.Second)
		u.expect("/srv/music", "scanning")
		u.press("x")
		u.expect("Stop sharing?", `"drop"`)
		u.press("y")
		u.expectCalls("unshare drop")
	})
}
