// doctor does what a rule promises, in the image that it lies in: it prints "it ran" where that works, and fails
// with the system's own words where it does not.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

const server = "doctor.example"

func main() {
	tasks := map[string]func() error{
		"authorities": authorities, "tls": handshake, "zone": zone, "tmp": tmp, "shell": shell,
		"packages": packages, "rights": rights, "capability": capability, "nothing": func() error { return nil },
	}
	if err := tasks[os.Args[1]](); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("it ran")
}

// authorities writes an authority that is valid, one that no longer is, and a server's certificate of each.
func authorities() error {
	now := time.Now()
	for folder, until := range map[string]time.Time{"/tls/valid": now.AddDate(50, 0, 0), "/tls/expired": now.AddDate(0, 0, -1)} {
		root := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "doctor's authority"}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: now.AddDate(-1, 0, 0), NotAfter: until, KeyUsage: x509.KeyUsageCertSign,
		}
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: server}, DNSNames: []string{server},
			NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(50, 0, 0),
		}
		if err := write(folder, root, leaf); err != nil {
			return err
		}
	}
	return nil
}

func write(folder string, root, leaf *x509.Certificate) error {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	rootBytes, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		return err
	}
	leafBytes, err := x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), rootKey)
	if err != nil {
		return err
	}
	key, err := x509.MarshalECPrivateKey(leafKey)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"authority.pem": {Type: "CERTIFICATE", Bytes: rootBytes},
		"server.crt":    {Type: "CERTIFICATE", Bytes: leafBytes},
		"server.key":    {Type: "EC PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(folder+"/"+name, pem.EncodeToMemory(block), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// handshake speaks TLS with a server of this process, and trusts whom the image trusts.
func handshake() error {
	certificate, err := tls.LoadX509KeyPair("/server/server.crt", "/server/server.key")
	if err != nil {
		return err
	}
	here, there := net.Pipe()
	go tls.Server(there, &tls.Config{Certificates: []tls.Certificate{certificate}}).Handshake()
	return tls.Client(here, &tls.Config{ServerName: server}).Handshake()
}

func zone() error {
	_, err := time.LoadLocation("Europe/Berlin")
	return err
}

func tmp() error {
	file, err := os.CreateTemp("/tmp", "doctor")
	// The name is another one each time.
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		return fmt.Errorf("a file in /tmp: %w", path.Err)
	}
	return file.Close()
}

// shell fails where somebody who gets in has a shell to work with.
func shell() error {
	for _, name := range []string{"sh", "bash", "ash", "busybox"} {
		if exec.Command(name, "-c", "true").Run() == nil {
			return errors.New("a shell runs: " + name)
		}
	}
	return nil
}

func packages() error {
	for _, name := range []string{"apk", "apt-get", "dpkg"} {
		if exec.Command(name, "--version").Run() == nil {
			return errors.New("a package manager runs: " + name)
		}
	}
	return nil
}

// rights fails where this program has more rights than who called it.
func rights() error {
	if caller, now := os.Getuid(), os.Geteuid(); caller != now {
		return fmt.Errorf("user %d has the rights of user %d", caller, now)
	}
	return nil
}

// capability gives a file a capability by its number, as setcap does; "effective" with that bit.
func capability() error {
	number, err := strconv.Atoi(os.Args[3])
	if err != nil {
		return err
	}
	value := make([]byte, 20) // struct vfs_cap_data, revision 2
	value[3] = 2
	if os.Args[4] == "effective" {
		value[0] = 1
	}
	binary.LittleEndian.PutUint32(value[4:], 1<<number)
	return syscall.Setxattr(os.Args[2], "security.capability", value, 0)
}
