package agent

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/trust"
)

// Trust implements [control.Backend].
func (b backend) Trust(context.Context) ([]control.Trusted, error) {
	list := []control.Trusted{}
	for _, r := range b.a.trust.List() {
		list = append(list, b.a.trusted(r))
	}
	return list, nil
}

func (a *Agent) trusted(r trust.Record) control.Trusted {
	return control.Trusted{
		ID: r.ID.String(), Short: r.ID.Short(), Name: a.peerName(r.ID), Trust: r.Standing.String(), Added: r.Added.Format(time.RFC3339), ByPolicy: r.Barred,
		Permissions: control.Permissions{
			AutoAccept: r.AutoAccept, Folder: r.Folder, MaxSize: r.MaxSize, Quota: r.Quota, Used: r.Used,
			RateUp: r.RateUp, RateDown: r.RateDown, Shares: slices.Clone(r.Shares),
		},
	}
}

// ChangeTrust implements [control.Backend].
func (b backend) ChangeTrust(_ context.Context, r control.TrustRequest) (control.Trusted, error) {
	id, err := b.trustee(r)
	if err != nil {
		return control.Trusted{}, err
	}
	switch r.Action {
	case "add":
		err = b.a.trust.Add(id, r.Name)
	case "remove":
		err = b.a.trust.Remove(id)
	case "block":
		err = b.a.trust.Block(id)
	case "set":
		if r.Name != "" {
			err = b.a.trust.Rename(id, r.Name)
		}
	default:
		return control.Trusted{}, &control.Error{Code: control.CodeUsage, Message: "unknown action " + clean.Text(r.Action)}
	}
	if err == nil && r.Permits() && (r.Action == "add" || r.Action == "set") {
		err = b.a.setPermissions(id, r)
	}
	if err != nil {
		return control.Trusted{}, explain(err)
	}
	record, ok := b.a.trust.Record(id)
	if !ok {
		record.ID = id
	}
	return b.a.trusted(record), nil
}

// trustee returns the device that a change of the trust book is about.
func (b backend) trustee(r control.TrustRequest) (identity.DeviceID, error) {
	if r.Action == "add" {
		// Only the whole ID grants trust: a name or a short ID can be imitated.
		id, err := identity.ParseDeviceID(r.Device)
		if err != nil {
			return id, &control.Error{
				Code: control.CodeUsage, Message: clean.Text(r.Device) + " is not a whole device ID: " + err.Error(),
				Hint: "run nigh id on the other device and copy its ID",
			}
		}
		if id == b.a.id.ID {
			return id, &control.Error{Code: control.CodeUsage, Message: "that is this device's own ID", Hint: "run nigh id on the other device"}
		}
		return id, nil
	}
	t, err := b.a.resolve(r.Device)
	if err != nil {
		return t.id, err
	}
	if t.id.IsZero() {
		return t.id, &control.Error{Code: control.CodeAway, Message: "the identity of " + t.name + " is not known yet", Hint: "connect first: nigh group join " + t.name}
	}
	// For a name that two share, the trusted one is right but for this: who
	// blocks may mean the other.
	if r.Action == "block" && !shortID.MatchString(r.Device) && slices.ContainsFunc(b.a.table.views(), func(p control.Peer) bool {
		return p.ID != t.id.String() && strings.EqualFold(p.Name, r.Device)
	}) {
		return t.id, &control.Error{Code: control.CodeAmbiguous, Message: "several devices are called " + clean.Text(r.Device), Hint: "use the short ID"}
	}
	return t.id, nil
}

// setPermissions changes what a trusted device may do.
func (a *Agent) setPermissions(id identity.DeviceID, r control.TrustRequest) error {
	if r.Folder != nil && *r.Folder != "" {
		if _, err := a.into(*r.Folder); err != nil {
			return err
		}
	}
	if r.ResetUsed {
		if err := a.trust.Use(id, -a.record(id).Used); err != nil {
			return err
		}
	}
	return a.trust.SetPermissions(id, func(p *trust.Permissions) {
		if r.AutoAccept != nil {
			p.AutoAccept = *r.AutoAccept
		}
		if r.Folder != nil {
			a.grant(*r.Folder, true)
			p.Folder = *r.Folder
		}
		for to, from := range map[*int64]*int64{&p.MaxSize: r.MaxSize, &p.Quota: r.Quota, &p.RateUp: r.RateUp, &p.RateDown: r.RateDown} {
			if from != nil {
				*to = *from
			}
		}
		switch {
		case r.Shares != nil:
			p.Shares = append([]string{}, *r.Shares...)
		case r.AllShares:
			p.Shares = nil
		}
	})
}

// trustCopy is the file in the state folder that has the trust book once more.
const trustCopy = "trust.json"

// restoreTrust says what became of a damaged database, takes the trust book from its
// copy then, and keeps the copy from here on.
func (a *Agent) restoreTrust() {
	path := filepath.Join(a.cfg.State, trustCopy)
	if a.id.Repaired {
		a.log.Warn("Device key could be read by others until now", "state", a.cfg.State)
		a.notices = append(a.notices, "The device key could be read by other users until now; if that matters, move key.pem away and pair anew.")
	}
	if aside, why := a.store.SetAside(); aside != "" {
		raw, err := trust.ReadCopy(path)
		var done trust.Imported
		if err == nil {
			done, err = a.trust.Import(raw, a.id.ID)
		}
		a.log.Error("Database was damaged and has been set aside", "path", aside, "err", why, "trusted", done.Trusted, "blocked", done.Blocked, "copy_err", err)
		text := "whom you trust and block is taken from its copy"
		if err != nil {
			text = "trust starts anew"
		}
		a.notices = append(a.notices, "The database was damaged and is kept as "+filepath.Base(aside)+"; "+text+", transfers and messages start anew, the device key is the same.")
	}
	a.trust.KeepCopy(path, func(err error) { a.log.Warn("Copy of the trust book was not kept", "err", err) })
}

// ExportTrust implements [control.Backend].
func (b backend) ExportTrust(context.Context) (control.TrustDocument, error) {
	raw, err := b.a.trust.Export()
	if err != nil {
		return control.TrustDocument{}, explain(err)
	}
	return control.TrustDocument{Text: string(raw), Devices: len(b.a.trust.List())}, nil
}

// ImportTrust implements [control.Backend].
func (b backend) ImportTrust(_ context.Context, d control.TrustDocument) (control.TrustImport, error) {
	done, err := b.a.trust.Import([]byte(d.Text), b.a.id.ID)
	if err != nil {
		return control.TrustImport{}, explain(err)
	}
	b.a.log.Info("Trust book was imported", "trusted", done.Trusted, "blocked", done.Blocked, "kept", done.Kept, "refused", done.Refused)
	return control.TrustImport{Trusted: done.Trusted, Blocked: done.Blocked, Kept: done.Kept, Refused: done.Refused}, nil
}

// Configuration implements [control.Backend].
func (b backend) Configuration(context.Context) (control.Configuration, error) {
	return control.Configuration{Settings: b.a.now().shown}, nil
}

// ReloadConfiguration implements [control.Backend].
func (b backend) ReloadConfiguration(context.Context) (control.Configuration, error) {
	later, err := b.a.reload()
	if err != nil {
		return control.Configuration{}, explain(err)
	}
	return control.Configuration{Settings: b.a.now().shown, Later: later}, nil
}
