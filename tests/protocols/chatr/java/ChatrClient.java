import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.util.Base64;
import java.util.UUID;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/**
 * What a client in the language of the first Chatr programs does: registers a key, connects, answers a ping, asks for
 * somebody who is not there, and leaves. Signatures are those of "SHA256withRSA", packets those of DataOutputStream.
 *
 * Arguments: the URL of the REST face, host and port of the Connect server, the file with its certificate.
 * Each step is one line of output; anything unexpected ends it with an exception.
 */
public final class ChatrClient {
    private static final int CONNECT = 0;
    private static final int DISCONNECT = 1;
    private static final int CONNECTED = 2;
    private static final int PING = 3;
    private static final int PONG = 4;
    private static final int CONNECTION_REQUEST = 5;
    private static final int CONNECTION_REQUEST_DENIED = 7;

    private final SSLSocket socket;
    private final DataInputStream input;
    private final DataOutputStream output;

    private ChatrClient(SSLContext context, String host, int port) throws Exception {
        socket = (SSLSocket) context.getSocketFactory().createSocket(host, port);
        socket.setSoTimeout(30_000);
        SSLParameters parameters = socket.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        socket.setSSLParameters(parameters);
        socket.startHandshake();
        input = new DataInputStream(socket.getInputStream());
        output = new DataOutputStream(socket.getOutputStream());
    }

    public static void main(String[] arguments) throws Exception {
        String rest = arguments[0];
        String host = arguments[1];
        int port = Integer.parseInt(arguments[2]);
        Certificate certificate = certificate(Files.readAllBytes(Path.of(arguments[3])));

        KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
        generator.initialize(2048);
        KeyPair first = generator.generateKeyPair();
        KeyPair second = generator.generateKeyPair();
        UUID uuid = UUID.randomUUID();

        say("certificate", certificate.equals(certificate(call("GET", rest + "/certificate", null, null).body)));
        String place = rest + "/api/1/clients/" + uuid;
        say("unknown", call("GET", place, null, null).status);
        say("registered", register("PUT", place, first, first.getPrivate()));
        say("registered again", register("PUT", place, first, first.getPrivate()));
        say("replaced by a stranger", register("POST", place, second, second.getPrivate()));

        SSLContext context = trusting(certificate);
        say("wrong key", connect(context, host, port, uuid, second.getPrivate(), 1));
        say("right key", connect(context, host, port, uuid, first.getPrivate(), 1));
        say("replaced", register("POST", place, second, first.getPrivate()));
        say("old key", connect(context, host, port, uuid, first.getPrivate(), 0));
        say("new key", connect(context, host, port, uuid, second.getPrivate(), 0));
        Reply reply = call("GET", place, null, null);
        String key = Base64.getEncoder().encodeToString(second.getPublic().getEncoded());
        say("read", reply.text().replace("\\/", "/").contains(key) && reply.text().contains(uuid.toString()));
    }

    /** Register or replace a key, in a body with the escapes of Java's JSON libraries. */
    private static String register(String method, String place, KeyPair pair, PrivateKey signer) throws Exception {
        String key = Base64.getEncoder().encodeToString(pair.getPublic().getEncoded()).replace("/", "\\/");
        byte[] body = ("{\"key\":\"" + key + "\"}").getBytes(StandardCharsets.UTF_8);
        String signature = Base64.getEncoder().encodeToString(sign(signer, body));
        Reply reply = call(method, place, body, signature);
        String text = reply.text();
        int type = text.indexOf("error_type");
        return reply.status + (type < 0 ? "" : " " + text.substring(type).split("\"")[2]);
    }

    /** Connect, live for a moment, and leave; what the server says to it. */
    private static String connect(
            SSLContext context, String host, int port, UUID uuid, PrivateKey key, int version) throws Exception {
        ChatrClient client = new ChatrClient(context, host, port);
        try {
            return client.session(uuid, sign(key, bytes(uuid)), version);
        } finally {
            client.socket.close();
        }
    }

    private String session(UUID uuid, byte[] signature, int version) throws IOException {
        ByteArrayOutputStream connect = new ByteArrayOutputStream();
        DataOutputStream packet = new DataOutputStream(connect);
        packet.writeByte(CONNECT);
        packet.writeInt(version);
        packet.writeLong(uuid.getMostSignificantBits());
        packet.writeLong(uuid.getLeastSignificantBits());
        packet.writeInt(signature.length);
        packet.write(signature);
        send(connect);

        DataInputStream answer = receive();
        int opcode = answer.readUnsignedByte();
        if (opcode == DISCONNECT) {
            byte[] message = new byte[varInt(answer)];
            answer.readFully(message);
            return new String(message, StandardCharsets.UTF_8) + end();
        }
        expect(CONNECTED, opcode);

        DataInputStream ping = receive();
        expect(PING, ping.readUnsignedByte());
        ByteArrayOutputStream pong = new ByteArrayOutputStream();
        packet = new DataOutputStream(pong);
        packet.writeByte(PONG);
        packet.writeLong(ping.readLong());
        send(pong);

        UUID nobody = UUID.randomUUID();
        ByteArrayOutputStream request = new ByteArrayOutputStream();
        packet = new DataOutputStream(request);
        packet.writeByte(CONNECTION_REQUEST);
        packet.writeLong(nobody.getMostSignificantBits());
        packet.writeLong(nobody.getLeastSignificantBits());
        packet.writeByte(4);
        packet.write(new byte[] {10, 0, 0, 7});
        send(request);
        DataInputStream denied = receive();
        expect(CONNECTION_REQUEST_DENIED, denied.readUnsignedByte());
        if (!nobody.equals(new UUID(denied.readLong(), denied.readLong()))) {
            throw new IOException("somebody else was denied");
        }

        byte[] farewell = "Goodbye \u20ac".getBytes(StandardCharsets.UTF_8);
        ByteArrayOutputStream disconnect = new ByteArrayOutputStream();
        packet = new DataOutputStream(disconnect);
        packet.writeByte(DISCONNECT);
        writeVarInt(packet, farewell.length);
        packet.write(farewell);
        send(disconnect);
        return "connected, pinged, denied" + end();
    }

    /** The server closes behind its last word. */
    private String end() throws IOException {
        return input.read() == -1 ? ", closed" : ", and more";
    }

    private void send(ByteArrayOutputStream packet) throws IOException {
        writeVarInt(output, packet.size());
        packet.writeTo(output);
        output.flush();
    }

    private DataInputStream receive() throws IOException {
        byte[] packet = new byte[varInt(input)];
        input.readFully(packet);
        return new DataInputStream(new ByteArrayInputStream(packet));
    }

    private static int varInt(DataInputStream from) throws IOException {
        int value = 0;
        for (int shift = 0; shift < 35; shift += 7) {
            int next = from.readUnsignedByte();
            value |= (next & 0x7f) << shift;
            if ((next & 0x80) == 0) {
                return value;
            }
        }
        throw new IOException("a VarInt of more than 5 bytes");
    }

    private static void writeVarInt(DataOutputStream to, int value) throws IOException {
        while ((value & ~0x7f) != 0) {
            to.writeByte(value & 0x7f | 0x80);
            value >>>= 7;
        }
        to.writeByte(value);
    }

    private static void expect(int expected, int opcode) throws IOException {
        if (expected != opcode) {
            throw new IOException("packet " + opcode + " where " + expected + " was expected");
        }
    }

    private static byte[] bytes(UUID uuid) throws IOException {
        ByteArrayOutputStream data = new ByteArrayOutputStream();
        DataOutputStream writer = new DataOutputStream(data);
        writer.writeLong(uuid.getMostSignificantBits());
        writer.writeLong(uuid.getLeastSignificantBits());
        return data.toByteArray();
    }

    private static byte[] sign(PrivateKey key, byte[] data) throws Exception {
        Signature signature = Signature.getInstance("SHA256withRSA");
        signature.initSign(key);
        signature.update(data);
        return signature.sign();
    }

    private static Certificate certificate(byte[] pem) throws Exception {
        String text = new String(pem, StandardCharsets.US_ASCII);
        String begin = "-----BEGIN CERTIFICATE-----";
        byte[] first = text.substring(text.indexOf(begin)).getBytes(StandardCharsets.US_ASCII);
        return CertificateFactory.getInstance("X.509").generateCertificate(new ByteArrayInputStream(first));
    }

    private static SSLContext trusting(Certificate certificate) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        store.setCertificateEntry("server", certificate);
        TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        factory.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, factory.getTrustManagers(), null);
        return context;
    }

    private static Reply call(String method, String url, byte[] body, String signature) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
        connection.setConnectTimeout(30_000);
        connection.setReadTimeout(30_000);
        connection.setRequestMethod(method);
        if (body != null) {
            connection.setDoOutput(true);
            connection.setRequestProperty("Content-Type", "application/json");
            connection.setRequestProperty("Chatr-PublicKey-Signature", signature);
            try (OutputStream stream = connection.getOutputStream()) {
                stream.write(body);
            }
        }
        int status = connection.getResponseCode();
        InputStream stream = status < 400 ? connection.getInputStream() : connection.getErrorStream();
        return new Reply(status, stream == null ? new byte[0] : stream.readAllBytes());
    }

    private static void say(String step, Object result) {
        System.out.println(step + ": " + result);
    }

    private static final class Reply {
        private final int status;
        private final byte[] body;

        private Reply(int status, byte[] body) {
            this.status = status;
            this.body = body;
        }

        private String text() {
            return new String(body, StandardCharsets.UTF_8);
        }
    }
}
