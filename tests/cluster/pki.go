package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const certificateLife = 365 * 24 * time.Hour

// authority is a certificate authority of the cluster.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// identity is what one certificate says about its holder.
type identity struct {
	name   string // file name
	user   string // common name
	groups []string
	server []string // names and addresses it serves as; empty: a client only
	client bool
}

func pki(name string) string { return state("pki", name) }

// writePKI makes every key and certificate of the cluster. Each component has its own; etcd and the
// front proxy have their own authorities, so that a cluster certificate never opens etcd.
func writePKI() error {
	if err := os.MkdirAll(state("pki"), 0o700); err != nil {
		return err
	}
	cluster, err := newAuthority("ca")
	if err != nil {
		return err
	}
	etcd, err := newAuthority("etcd-ca")
	if err != nil {
		return err
	}
	front, err := newAuthority("front-proxy-ca")
	if err != nil {
		return err
	}
	apiNames := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1", nodeIP, apiIP}
	issue := []struct {
		by *authority
		id identity
	}{
		{etcd, identity{name: "etcd-server", user: "etcd", server: []string{"localhost", "127.0.0.1"}}},
		{etcd, identity{name: "etcd-peer", user: "etcd", server: []string{"localhost", "127.0.0.1"}, client: true}},
		{etcd, identity{name: "etcd-client", user: "kube-apiserver", client: true}},
		{cluster, identity{name: "apiserver", user: "kube-apiserver", server: apiNames}},
		{cluster, identity{name: "apiserver-kubelet-client", user: "kube-apiserver-kubelet-client", client: true}},
		{front, identity{name: "front-proxy-client", user: "front-proxy-client", client: true}},
		{cluster, identity{name: "admin", user: "whittle-admin", groups: []string{"system:masters"}, client: true}},
		{cluster, identity{name: "health", user: "whittle-health", client: true}},
		{cluster, identity{name: "controller-manager", user: "system:kube-controller-manager", server: []string{"localhost", "127.0.0.1"}, client: true}},
		{cluster, identity{name: "scheduler", user: "system:kube-scheduler", server: []string{"localhost", "127.0.0.1"}, client: true}},
		{cluster, identity{name: "kubelet-client", user: "system:node:" + nodeName, groups: []string{"system:nodes"}, client: true}},
		{cluster, identity{name: "kubelet-server", user: "system:node:" + nodeName, groups: []string{"system:nodes"}, server: []string{nodeName, nodeIP}}},
		{cluster, identity{name: "kube-proxy", user: "system:kube-proxy", client: true}},
		{cluster, identity{name: "provisioner", user: "whittle-provisioner", client: true}},
		{cluster, identity{name: "netpol", user: "whittle-netpol", client: true}},
	}
	for _, i := range issue {
		if err := i.by.issue(i.id); err != nil {
			return fmt.Errorf("certificate %s: %w", i.id.name, err)
		}
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	if err := writeKey("service-account", key); err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := writePEM(pki("service-account.pub"), "PUBLIC KEY", public, 0o644); err != nil {
		return err
	}
	for _, name := range []string{"controller-manager", "scheduler", "kubelet-client", "kube-proxy", "netpol"} {
		if err := writeKubeconfig(state("pki", name+".kubeconfig"), "https://"+nodeIP+":"+apiPort, name); err != nil {
			return err
		}
	}
	return writeKubeconfig(state("kubeconfig"), "https://"+hostAPI, "admin")
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // the system has no randomness: nothing can be signed
	}
	return n
}

func newAuthority(name string) (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "whittle " + name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(certificateLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a := &authority{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	// The authorities' keys stay in memory: nothing in this cluster signs after the start.
	return a, os.WriteFile(pki(name+".crt"), a.pem, 0o644)
}

func (a *authority) issue(id identity) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: id.user, Organization: id.groups},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     a.cert.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	if len(id.server) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if id.client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, n := range id.server {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	if err := writePEM(pki(id.name+".crt"), "CERTIFICATE", der, 0o644); err != nil {
		return err
	}
	return writeKey(id.name, key)
}

func writeKey(name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(pki(name+".key"), "PRIVATE KEY", der, 0o600)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

// writeKubeconfig writes a kubeconfig with everything inside it, so that it can be copied. JSON is
// YAML, and needs no library.
func writeKubeconfig(path, server, id string) error {
	read := func(name string) []byte {
		data, _ := os.ReadFile(pki(name))
		return data
	}
	type named map[string]any
	doc := named{
		"apiVersion": "v1", "kind": "Config", "current-context": clusterName,
		"clusters": []named{{"name": clusterName, "cluster": named{"server": server, "certificate-authority-data": read("ca.crt")}}},
		"users":    []named{{"name": id, "user": named{"client-certificate-data": read(id + ".crt"), "client-key-data": read(id + ".key")}}},
		"contexts": []named{{"name": clusterName, "context": named{"cluster": clusterName, "user": id}}},
	}
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	return writeFileAtomic(path, append(data, '\n'), 0o600)
}

func writeFileAtomic(path string, data []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(data); err != nil {
		return err
	}
	if err := tmp.Chmod(mode); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
