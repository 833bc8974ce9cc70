// Image files as the API takes them; the limits are those of the server, told before anything is sent.
import { fault } from "./wire.js";

export const TYPES = ["image/png", "image/jpeg", "image/webp"];
const MOST_BYTES = 20 << 20;
const MOST_PIXELS = 1 << 24;
const [SHORTEST, LONGEST] = [16, 8192];
const MOST_ASPECT = 16;
const SIZES = "sides of 16 to 8192, at most 16.7 megapixels, no longer than 16:1";

const refused = (...problem) => fault("This file cannot be used.", ...problem);

// {file, url, width, height}; whoever takes it gives the URL back. `field` is what a complaint is about.
export async function opened(file, field) {
  if (!TYPES.includes(file.type)) {
    throw refused(field, file.type || file.name, "PNG, JPEG or WebP", "Save the image as PNG and choose it again.");
  }
  if (file.size > MOST_BYTES)
    throw refused(field, megabytes(file.size), "at most 20 MB", "Save it smaller, or as WebP.");
  const url = URL.createObjectURL(file);
  try {
    const { naturalWidth: width, naturalHeight: height } = await decoded(url, field);
    const [short, long] = [width, height].sort((a, b) => a - b);
    if (short < SHORTEST || long > LONGEST || width * height > MOST_PIXELS || long > short * MOST_ASPECT) {
      throw refused(field, `${width} × ${height}`, SIZES, "Scale or crop the image first.");
    }
    return { file, url, width, height };
  } catch (error) {
    URL.revokeObjectURL(url);
    throw error;
  }
}

async function decoded(url, field) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    throw refused(field, "a file that does not open", "a whole image", "The file may be damaged or cut off.");
  }
  return image;
}

export const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;
