package control_test

import (
	"context"

	"nigh/agent/control"
)

var (
	sampleShare   = control.Share{Name: "photos", Folder: "/srv/photos", For: []control.Member{{ID: samplePeer.ID, Name: samplePeer.Name}}, State: "ready", Files: 3, Watched: "inotify"}
	sampleEntry   = control.ShareEntry{Name: "a.jpg", Kind: "file", Size: 5, Hash: "af13", Holders: []control.ShareHolder{{Share: "photos", Path: "x/a.jpg"}}}
	sampleListing = control.Listing{Device: control.Member{ID: samplePeer.ID}, Share: "photos", Path: "x", Entries: []control.ShareEntry{sampleEntry}, More: true}
)

func (b *backend) Shares(context.Context) ([]control.Share, error) {
	return []control.Share{sampleShare}, b.note("shares")
}
func (b *backend) AddShare(_ context.Context, r control.ShareRequest) (control.Share, error) {
	return sampleShare, b.note(r)
}
func (b *backend) ChangeShare(_ context.Context, name string, r control.ShareChange) (control.Share, error) {
	return sampleShare, b.note([]any{"change share", name, r})
}
func (b *backend) RemoveShare(_ context.Context, name string) error {
	return b.note([]any{"remove share", name})
}
func (b *backend) Browse(_ context.Context, r control.BrowseRequest) (control.Listing, error) {
	return sampleListing, b.note(r)
}
func (b *backend) Search(_ context.Context, r control.SearchRequest, each func(control.SearchAnswer)) (control.SearchAnswer, error) {
	if each != nil {
		each(control.SearchAnswer{Results: []control.ShareEntry{sampleEntry}})
		each(control.SearchAnswer{Results: []control.ShareEntry{sampleEntry, sampleEntry}})
	}
	return control.SearchAnswer{Results: []control.ShareEntry{sampleEntry}, Asked: 2}, b.note(r)
}
func (b *backend) Get(_ context.Context, r control.GetRequest) (control.Transfer, error) {
	return sampleTransfer, b.note(r)
}
