import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** A form, sent with the JDK's client as it is by default: it offers HTTP/2. Writes status and body of two calls. */
public class Edit {
    static final String BOUNDARY = "----a-boundary-of-its-own";

    static void part(ByteArrayOutputStream body, String head, byte[] value) throws Exception {
        body.write(("--" + BOUNDARY + "\r\nContent-Disposition: form-data; " + head + "\r\n\r\n").getBytes(StandardCharsets.UTF_8));
        body.write(value);
        body.write("\r\n".getBytes(StandardCharsets.UTF_8));
    }

    public static void main(String[] given) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (String stream : new String[] {"false", "true"}) {
            ByteArrayOutputStream body = new ByteArrayOutputStream();
            part(body, "name=\"image\"; filename=\"photo.png\"\r\nContent-Type: image/png", Files.readAllBytes(Path.of(given[2])));
            part(body, "name=\"prompt\"", given[3].getBytes(StandardCharsets.UTF_8));
            part(body, "name=\"stream\"", stream.getBytes(StandardCharsets.UTF_8));
            body.write(("--" + BOUNDARY + "--\r\n").getBytes(StandardCharsets.UTF_8));
            HttpRequest request = HttpRequest.newBuilder(URI.create(given[0] + "/images/edits"))
                .header("Authorization", "Bearer " + given[1])
                .header("Content-Type", "multipart/form-data; boundary=" + BOUNDARY)
                .POST(HttpRequest.BodyPublishers.ofByteArray(body.toByteArray())).build();
            HttpResponse<String> reply = client.send(request, HttpResponse.BodyHandlers.ofString());
            Files.writeString(Path.of(given[4] + "." + stream), reply.body());
            System.out.println(reply.statusCode() + " " + reply.version());
        }
    }
}
