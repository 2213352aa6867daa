package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	ncPort    = 7001
	sshPort   = 7002
	rsyncPort = 7003
)

// programs of the references, and the Debian packages that have them.
var programs = map[string]string{
	"nc.openbsd": "netcat-openbsd", "tar": "tar", "ssh": "openssh-client", "scp": "openssh-client", "ssh-keygen": "openssh-client",
	"/usr/sbin/sshd": "openssh-server", "rsync": "rsync", "syncthing": "syncthing", "wormhole": "magic-wormhole", "twist3": "python3-twisted",
}

// references prepares the tools that nigh is compared with.
func references(b *bed) []tool {
	for program, debian := range programs {
		if _, err := exec.LookPath(program); err != nil {
			b.Fatalf("needs the program %s: apt-get install %s", program, debian)
		}
	}
	b.must(sshFiles(b))
	config := b.path("ssh_config")
	overSSH := func(name string, args ...string) mover {
		return func(ctx context.Context, b *bed, source, target string) (measurement, error) {
			return moveSSH(ctx, b, name, append(args, source, "peer:"+target)...)
		}
	}
	all := []string{largeSet, smallSet, mixedSet}
	return []tool{
		{"nc", []string{largeSet}, moveNC},
		{"tar, nc", []string{smallSet, mixedSet}, moveTarNC},
		{"scp", []string{largeSet, smallSet}, overSSH("scp", "-q", "-r", "-F", config)},
		{"scp -O, aes128-gcm", []string{largeSet}, overSSH("scp", "-q", "-O", "-c", "aes128-gcm@openssh.com", "-F", config)},
		{"rsync, ssh", all, overSSH("rsync", "-aW", "-e", "ssh -F "+config)},
		{"rsync daemon", all, moveRsyncDaemon},
		{"tar, ssh", []string{smallSet, mixedSet}, func(ctx context.Context, b *bed, source, target string) (measurement, error) {
			script := fmt.Sprintf("tar -c -C %s %s | ssh -F %s peer tar -x -C %s", filepath.Dir(source), filepath.Base(source), config, target)
			return moveSSH(ctx, b, "sh", "-c", script)
		}},
		{"syncthing", all, useSyncthing(b)},
		{"magic-wormhole", []string{largeSet, smallSet}, startWormhole(b)}, // it packs a folder into a zip first: minutes for the mixed tree,
	}
}

// moveRsyncDaemon runs rsync against a daemon of its own on the receiving side: no encryption.
func moveRsyncDaemon(ctx context.Context, b *bed, source, target string) (measurement, error) {
	config := b.path("rsyncd.conf")
	text := fmt.Sprintf("use chroot = no\nuid = 0\ngid = 0\nmunge symlinks = no\n[target]\npath = %s\nread only = no\n", target)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return measurement{}, err
	}
	daemon := b.command(ctx, b.receiver, "rsync", "--daemon", "--no-detach", "--config="+config, "--address="+receiverAddress, "--port="+strconv.Itoa(rsyncPort))
	client := b.command(ctx, b.sender, "rsync", "-aW", source, fmt.Sprintf("rsync://%s:%d/target/", receiverAddress, rsyncPort))
	return moveToDaemon(ctx, b, daemon, rsyncPort, client)
}

func moveNC(ctx context.Context, b *bed, source, target string) (measurement, error) {
	return moveShell(ctx, b,
		fmt.Sprintf("exec nc.openbsd -l %d >%s", ncPort, filepath.Join(target, filepath.Base(source))),
		fmt.Sprintf("exec nc.openbsd -N %s %d <%s", receiverAddress, ncPort, source))
}

func moveTarNC(ctx context.Context, b *bed, source, target string) (measurement, error) {
	return moveShell(ctx, b,
		fmt.Sprintf("nc.openbsd -l %d | tar -x -C %s", ncPort, target),
		fmt.Sprintf("tar -c -C %s %s | nc.openbsd -N %s %d", filepath.Dir(source), filepath.Base(source), receiverAddress, ncPort))
}

// moveShell runs a receiving and a sending shell command to their ends.
func moveShell(ctx context.Context, b *bed, receive, send string) (m measurement, err error) {
	receiver := b.command(ctx, b.receiver, "sh", "-c", receive)
	if err := receiver.Start(); err != nil {
		return m, err
	}
	if err := b.listening(ctx, receiver.Process.Pid, ncPort); err != nil {
		_ = receiver.Process.Kill()
		return m, said(receiver, receiver.Wait())
	}
	start := time.Now()
	sender := b.command(ctx, b.sender, "sh", "-c", send)
	err = said(sender, sender.Run())
	if err != nil {
		_ = receiver.Process.Kill()
	}
	if rerr := said(receiver, receiver.Wait()); err == nil {
		err = rerr
	}
	if err != nil {
		return m, err
	}
	m.wall = time.Since(start)
	m.senderCPU, m.senderRSS = ended(sender.ProcessState)
	m.receiverCPU, m.receiverRSS = ended(receiver.ProcessState)
	return m, nil
}

// moveSSH runs a program that connects to an sshd of its own on the receiving side.
func moveSSH(ctx context.Context, b *bed, name string, args ...string) (m measurement, err error) {
	// sshd starts itself again for each connection, and wants its full path for that.
	daemon := b.command(ctx, b.receiver, "/usr/sbin/sshd", "-D", "-e", "-f", b.path("sshd_config"))
	return moveToDaemon(ctx, b, daemon, sshPort, b.command(ctx, b.sender, name, args...))
}

// moveToDaemon starts a daemon, runs a client, and waits until the daemon's processes for it have ended. The daemon is new
// each time, so that its processor time is this move's; its start is not measured.
func moveToDaemon(ctx context.Context, b *bed, daemon *exec.Cmd, port int, client *exec.Cmd) (m measurement, err error) {
	if err := daemon.Start(); err != nil {
		return m, err
	}
	stop := func() error {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		return daemon.Wait()
	}
	if err := b.listening(ctx, daemon.Process.Pid, port); err != nil {
		_ = stop() // its status is that of the signal
		return m, said(daemon, err)
	}
	start := time.Now()
	if err := client.Run(); err != nil {
		_ = stop()
		return m, said(client, err)
	}
	err = until(ctx, "the daemon does not end its session", func() bool {
		processes, err := family(daemon.Process.Pid)
		return err == nil && len(processes) == 1
	})
	m.wall = time.Since(start)
	_ = stop()
	m.senderCPU, m.senderRSS = ended(client.ProcessState)
	m.receiverCPU, m.receiverRSS = ended(daemon.ProcessState)
	return m, err
}

// sshFiles makes keys and configurations for this run alone. Nothing of the user's own is read.
func sshFiles(b *bed) error {
	for _, name := range []string{"host_key", "user_key"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", b.path(name)).CombinedOutput(); err != nil {
			return fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	host, err := os.ReadFile(b.path("host_key.pub"))
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"known_hosts": fmt.Sprintf("[%s]:%d %s", receiverAddress, sshPort, host),
		"ssh_config": fmt.Sprintf(`Host peer
HostName %s
Port %d
User root
IdentityFile %s
IdentitiesOnly yes
UserKnownHostsFile %s
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
BatchMode yes
LogLevel ERROR
`, receiverAddress, sshPort, b.path("user_key"), b.path("known_hosts")),
		"sshd_config": fmt.Sprintf(`ListenAddress %s:%d
HostKey %s
AuthorizedKeysFile %s
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
LogLevel ERROR
Subsystem sftp internal-sftp
`, receiverAddress, sshPort, b.path("host_key"), b.path("user_key.pub")),
	} {
		if err := os.WriteFile(b.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	// Debian's sshd wants this folder, which its service makes.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		return err
	}
	return nil
}
