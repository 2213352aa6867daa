package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	ncPort  = 7001
	sshPort = 7002
)

// newReferences prepares the tools that nigh is compared with.
func newReferences(b *bed) ([]tool, error) {
	for program, debian := range map[string]string{
		"nc.openbsd": "netcat-openbsd", "tar": "tar", "ssh": "openssh-client", "scp": "openssh-client",
		"ssh-keygen": "openssh-client", "/usr/sbin/sshd": "openssh-server", "rsync": "rsync",
	} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("needs the program %s: apt-get install %s", program, debian)
		}
	}
	if err := sshFiles(b); err != nil {
		return nil, err
	}
	config := b.path("ssh_config")
	return []tool{
		{"nc", []string{fileSet}, moveNC},
		{"tar, nc", []string{treeSet}, moveTarNC},
		{"scp", []string{fileSet, treeSet}, func(ctx context.Context, b *bed, source, target string) (measurement, error) {
			return moveSSH(ctx, b, "scp", "-q", "-r", "-F", config, source, "peer:"+target)
		}},
		{"scp -O, aes128-gcm", []string{fileSet}, func(ctx context.Context, b *bed, source, target string) (measurement, error) {
			return moveSSH(ctx, b, "scp", "-q", "-O", "-c", "aes128-gcm@openssh.com", "-F", config, source, "peer:"+target)
		}},
		{"rsync, ssh", []string{fileSet, treeSet}, func(ctx context.Context, b *bed, source, target string) (measurement, error) {
			return moveSSH(ctx, b, "rsync", "-aW", "-e", "ssh -F "+config, source, "peer:"+target)
		}},
		{"tar, ssh", []string{treeSet}, func(ctx context.Context, b *bed, source, target string) (measurement, error) {
			script := fmt.Sprintf("tar -c -C %s %s | ssh -F %s peer tar -x -C %s", filepath.Dir(source), filepath.Base(source), config, target)
			return moveSSH(ctx, b, "sh", "-c", script)
		}},
	}, nil
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

// moveSSH runs a program that connects to an sshd of its own on the receiving side. The daemon is new each time, so that its
// processor time is this move's; its start is not measured.
func moveSSH(ctx context.Context, b *bed, name string, args ...string) (m measurement, err error) {
	// sshd starts itself again for each connection, and wants its full path for that.
	daemon := b.command(ctx, b.receiver, "/usr/sbin/sshd", "-D", "-e", "-f", b.path("sshd_config"))
	if err := daemon.Start(); err != nil {
		return m, err
	}
	stop := func() error {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		return daemon.Wait()
	}
	if err := b.listening(ctx, daemon.Process.Pid, sshPort); err != nil {
		_ = stop() // its status is that of the signal
		return m, said(daemon, err)
	}
	start := time.Now()
	client := b.command(ctx, b.sender, name, args...)
	if err := client.Run(); err != nil {
		_ = stop()
		return m, said(client, err)
	}
	err = until(ctx, "sshd does not end its session", func() bool {
		n, err := children(daemon.Process.Pid)
		return err == nil && n == 0
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
